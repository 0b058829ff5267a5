// Which of the tarballs is for the machine that this runs on.

/** As the napi-rs CLI names platforms: 'linux-x64-gnu'. */
export function thisPlatform() {
  const { platform, arch } = process
  if (platform === 'win32') return `win32-${arch}-msvc`
  if (platform !== 'linux') return `${platform}-${arch}`
  return `linux-${arch}-${process.report.getReport().header.glibcVersionRuntime === undefined ? 'musl' : 'gnu'}`
}

/** Picks from paths of tarballs: the library, the command, this platform's package. */
export function pick(paths) {
  const find = (pattern) => {
    const found = paths.find((path) => pattern.test(path))
    if (found === undefined) throw new Error(`no tarball ${pattern} in ${paths.join(', ') || 'the folder'}`)
    return found
  }
  return {
    library: find(/s4-node-\d[^/\\]*\.tgz$/),
    command: find(/s4-node-cli-\d[^/\\]*\.tgz$/),
    platform: find(new RegExp(`s4-node-${thisPlatform()}-\\d[^/\\\\]*\\.tgz$`)),
  }
}
