/**
 * Tasks on top of s4-node: forecasts, classifications and generation, from data to figures, with good results by default.
 */
export {
  Forecaster,
  type Backtest,
  type BacktestForecast,
  type ColumnForecast,
  type Forecast,
  type ForecastCall,
  type ForecastRange,
} from './api/tasks/forecaster.js'
export type { ForecastOptions, SeriesSplit } from './api/tasks/forecast-options.js'
export type { ForecastFigures, ForecastScores } from './api/tasks/forecast-scores.js'
export { ForecastStream, type StreamRow, type StreamRowOptions } from './api/tasks/forecast-stream.js'
export type { ColumnHolder, Columns, SeriesData } from './api/tasks/series.js'
export { metrics } from './api/tasks/metrics.js'
export type { F1Scores } from './api/scores.js'
export type {
  EndEvent,
  EpochConfusion,
  EpochEvent,
  EpochFigures,
  EpochForecast,
  PlanEvent,
  StepEvent,
  TaskEvent,
  TaskTrainOptions,
} from './api/tasks/options.js'
export { Classifier, type Classification, type ClassScores } from './api/tasks/classifier.js'
export { ClassStream, type ClassStreamOptions, type WindowClass } from './api/tasks/class-stream.js'
export type {
  ClassExample,
  ClassExamples,
  ClassInput,
  InputKind,
  PictureScan,
} from './api/tasks/class-inputs.js'
export type { InputFile } from './api/tasks/class-files.js'
export type { ClassifyOptions } from './api/tasks/class-options.js'
export { Generator, type TextOptions, type TextScore } from './api/tasks/generator.js'
export type { TextFile, TextSource } from './api/tasks/generate-fit.js'
export type { GeneratorOptions } from './api/tasks/generate-options.js'
export type { TokenKind, Tokenizer } from './api/tasks/tokenizer.js'
