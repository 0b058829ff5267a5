// Parameters chosen by name, with rates of their own.
import { booleanOf, listOf, membersOf, numberIn32Bits, textOf } from './check.js'
import { fail } from './error.js'

/** Parameters chosen by name, with rates of their own. */
export interface ParameterGroup {
  /** A name of {@link SequenceModel.parameters}, in which `*` stands for any characters: `'blocks.*.layer.kernel.inv_dt'`, `'*.bias'`. */
  name: string
  /** Learning rate. Default that of the parameter's group, `lr` or `ssmLr`. */
  lr?: number
  /** Decoupled decay. Default `weightDecay`, and 0 for Δ, A, B and P. */
  weightDecay?: number
  /** They stay as they are, and their gradients count in no norm. Default false. */
  freeze?: boolean
}

/** Groups of parameters as the addon takes them, which knows the names. */
export function checkGroups(op: string, groups: unknown): { name: string }[] {
  return listOf(op, 'groups', groups).map((group) => {
    const names = ['name', 'lr', 'weightDecay', 'freeze']
    const { name, lr, weightDecay, freeze, ...others } = membersOf(
      op,
      'each of groups',
      group,
      'ERR_S4_VALUE',
      names,
    )
    const [unknown] = Object.keys(others)
    if (unknown !== undefined)
      throw fail('ERR_S4_VALUE', op, 'groups of name, lr, weightDecay, freeze', `unknown option '${unknown}'`)
    return {
      name: textOf(op, 'name of each of groups', name),
      ...(lr !== undefined && { lr: numberIn32Bits(op, 'lr of each of groups', lr) }),
      ...(weightDecay !== undefined && {
        weightDecay: numberIn32Bits(op, 'weightDecay of each of groups', weightDecay),
      }),
      ...(freeze !== undefined && { freeze: booleanOf(op, 'freeze of each of groups', freeze) }),
    }
  })
}
