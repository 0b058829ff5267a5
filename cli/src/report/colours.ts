/** The colours of all pages. */
export const colours = {
  ink: '#1d2733',
  muted: '#6b7785',
  model: '#1f6f8b',
  band: '#9cc9d6',
  linear: '#b7791f',
  persistence: '#8a8f98',
  mark: '#d1495b',
  layers: ['#1f6f8b', '#6a994e', '#b7791f', '#8e5572', '#3d5a80', '#bc4749'],
}
