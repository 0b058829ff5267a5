// What the items of gpu-run.mjs that run beside each other have of the machine.
import { spawnSync } from 'node:child_process'
import { cpus } from 'node:os'

/**
 * The share of the machine that worker `i` of `jobs` has: the GPUs in turn, and neighbouring cores, twice as many for the first worker,
 * which takes the longest item. Everything where one item runs alone.
 */
export function shareOf(i, jobs, gpus) {
  if (jobs === 1) return undefined
  const border = (k) => Math.floor((k * cpus().length) / (jobs + 1))
  const [first, end] = i === 0 ? [0, border(2)] : [border(i + 1), Math.max(border(i + 2), border(i + 1) + 1)]
  return {
    cores:
      spawnSync('taskset', ['--version']).error === undefined
        ? Array.from({ length: Math.max(1, end - first) }, (_, k) => first + k).join(',')
        : undefined,
    gpu: gpus.length > 1 ? { CUDA_VISIBLE_DEVICES: gpus[i % gpus.length] } : {},
  }
}
