/** What examples/shards.mjs gives, as types. */
import type { Server } from 'node:http'
import type { Dataset, DatasetPass, Sample } from '../index.js'

export declare function tarFiles(
  stream: AsyncIterable<Uint8Array>,
): AsyncGenerator<{ name: string; data: Uint8Array }>
export declare function datasetOf(
  urls: readonly string[],
  buffer?: number,
): (pass: DatasetPass) => Dataset & AsyncIterable<Sample>
export declare function serve(shards: number, examples: number): Promise<{ server: Server; urls: string[] }>
