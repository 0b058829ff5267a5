import * as binding from '#binding'
import { describe, filePath, oneOf, rejectUnknownOptions } from './check.js'
import { fail, callNativeAsync } from './error.js'
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
}

/**
 * Pictures of PNG and JPEG files, in the order given, read on all cores while JavaScript goes on. A file that is no picture, or one of
 * another size than the first, is `ERR_S4_DATA` with its path.
 */
export async function readPictures(
  paths: readonly string[],
  options: PictureFileOptions = {},
): Promise<Pictures> {
  const op = 'readPictures'
  rejectUnknownOptions(op, options, ['colours'])
  const colours = oneOf(op, 'colours', options.colours ?? 'asStored', choices.colours)
  if (!Array.isArray(paths) || paths.length === 0)
    throw fail('ERR_S4_VALUE', op, 'one or more paths', Array.isArray(paths) ? 'none' : describe(paths))
  const list = paths.map((path) => filePath(op, path))
  return callNativeAsync(() => binding.readPictures(list, colours))
}
