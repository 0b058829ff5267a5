import * as binding from '#binding'
import { inBackground } from './background.js'
import { filePath, listOf, oneOf, rejectUnknownOptions, type FilePath } from './check.js'
import { fail } from './error.js'
import { choices } from './options.js'

/** Pictures of one size. */
export interface Pictures {
  /** (count, height, width, channels). */
  pixels: Uint8Array
  /** Number of pictures. */
  count: number
  /** Rows of pixels. */
  height: number
  /** Pixels of a row. */
  width: number
  /** Bytes of a pixel. */
  channels: number
}

/** What a pixel is to be. */
export interface PictureFileOptions {
  /** One byte of luminance, three of colour, or as many as the first file has. Default `'asStored'`. */
  colours?: (typeof choices.colours)[number]
  /** Rejects at once with `ERR_S4_ABORTED` when it fires; what the work would have given is lost. */
  signal?: AbortSignal
}

/**
 * Pictures of PNG and JPEG files, in the order given, read on all cores while JavaScript goes on. A file that is no picture, or one of
 * another size than the first, is `ERR_S4_DATA` with its path.
 */
export async function readPictures(
  paths: readonly FilePath[],
  options: PictureFileOptions = {},
): Promise<Pictures> {
  const op = 'readPictures'
  const { colours: asked = 'asStored', signal } = rejectUnknownOptions(op, options, ['colours', 'signal'])
  const colours = oneOf(op, 'colours', asked, choices.colours)
  const list = listOf(op, 'paths', paths).map((path) => filePath(op, path, 'each of paths'))
  if (list.length === 0) throw fail('ERR_S4_VALUE', op, 'one or more paths', 'none')
  return inBackground(op, () => binding.readPictures(list, colours), signal)
}
