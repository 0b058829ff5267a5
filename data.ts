/**
 * Data for s4-node: tables, recordings, pictures and text from files and streams, and what stands between them and a model.
 */
export { DataTable, type ColumnsWithTime, type TableLike } from './api/data/table.js'
export {
  readTable,
  tableRows,
  type ColumnType,
  type TableFormat,
  type TableRowsOptions,
} from './api/data/table-read.js'
export {
  jsonlRows,
  readJsonl,
  tableFrom,
  type TableFromOptions,
  type TableValues,
} from './api/data/table-from.js'
export type { DataSource } from './api/data/source.js'
export { calendar, type CalendarField, type CalendarOptions } from './api/data/calendar.js'
export { split, type SplitOptions, type SplitParts } from './api/data/split.js'
export { Scaler, type ScalerValues, type Scaling } from './api/data/scaler.js'
export { TableWindows, windows, type TableWindowOptions } from './api/data/windows.js'
export {
  batched,
  collate,
  mapped,
  prefetch,
  shuffled,
  type BatchOptions,
  type Items,
  type ShuffleOptions,
  type WalkOptions,
} from './api/data/order.js'
export {
  audioChunks,
  pcmFrames,
  readAudio,
  resample,
  type AudioOptions,
  type ChunkOptions,
  type PcmFormat,
  type PcmOptions,
  type Recording,
  type RecordingPiece,
  type ResampleOptions,
} from './api/data/audio.js'
export {
  cifar10Examples,
  idxExamples,
  type CifarExampleOptions,
  type PictureExample,
} from './api/data/picture-files.js'
export { readCifar10, readIdx, readNpy, readNpz, type Cifar10, type FileArray } from './api/data/arrays.js'
export {
  audioFolder,
  imageFolder,
  labelledFolder,
  textFolder,
  type AudioFolderOptions,
  type FileExample,
  type FileExamples,
  type FolderOptions,
  type ImageFolderOptions,
  type LabelledFile,
  type LabelRule,
  type TextFolderOptions,
} from './api/data/folders.js'
export { byteTokens, characterTokens, type TextTokens } from './api/data/text.js'
