// What a generator's file holds beside its network: the metadata `extra` of the checkpoint, as JSON.
import { fail } from '../error.js'
import type { ModelConfig } from '../options.js'
import type { GeneratorAbout } from './generate-fit.js'
import { savedCodec, savedTokens, type CheckedTokenizer, type SavedTokens } from './tokenizer.js'

const FORMAT = 1

export function generatorText({ codec }: GeneratorAbout): string {
  return JSON.stringify({ task: 'generate', format: FORMAT, tokens: savedTokens(codec) })
}

/** Reads what {@link generatorText} gave. `ERR_S4_CHECKPOINT` for anything else, before the network is used. */
export function generatorAbout(
  op: string,
  text: string | undefined,
  config: Readonly<ModelConfig>,
  tokenizer: CheckedTokenizer | undefined,
): GeneratorAbout {
  const wrong = (got: string) => fail('ERR_S4_CHECKPOINT', op, 'a file that Generator.save wrote', got)
  let given: { task?: unknown; format?: unknown; tokens?: SavedTokens }
  try {
    given = JSON.parse(text ?? '') as typeof given
  } catch {
    throw wrong('a model that does not say its tokens')
  }
  if (given?.task !== 'generate')
    throw wrong(
      typeof given?.task === 'string' ? `a file of the task '${given.task}'` : 'a model of another program',
    )
  if (given.format !== FORMAT) throw wrong(`one of the format ${String(given.format)}`)
  const codec = savedCodec(op, 'generator', given.tokens, tokenizer)
  const { encoder, vocabulary, output, loss, pooling } = config
  const right =
    codec !== undefined &&
    encoder === 'embedding' &&
    vocabulary === codec.size + 1 &&
    output === vocabulary &&
    loss === 'crossEntropy' &&
    pooling === 'none'
  if (!right) throw wrong('a damaged one')
  return { codec }
}
