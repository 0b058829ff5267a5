// The default of `threads` is what the process may use, not what the machine has: a container's CPU quota counts.
import assert from 'node:assert/strict'
import { mkdirSync, rmdirSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { installed, run } from './project.mjs'

/** Version 1 and 2 of Linux's control groups: where a group is made, and the files that give it one CPU. */
const ways = [
  {
    folder: '/sys/fs/cgroup/cpu/s4-test',
    quota: { 'cpu.cfs_period_us': '100000', 'cpu.cfs_quota_us': '100000' },
  },
  { folder: '/sys/fs/cgroup/s4-test', quota: { 'cpu.max': '100000 100000' } },
]

function group() {
  for (const { folder, quota } of ways) {
    try {
      mkdirSync(folder)
    } catch {
      continue
    }
    try {
      for (const [file, text] of Object.entries(quota))
        writeFileSync(join(folder, file), text, { flag: 'r+' })
      return folder
    } catch {
      rmdirSync(folder)
    }
  }
  return undefined
}

test('threads keep to a quota of one CPU', (t) => {
  if (availableParallelism() < 2) return t.skip('a machine with one CPU shows nothing')
  const folder = group()
  if (folder === undefined) return t.skip('no control group of CPUs that this user may make')
  try {
    const project = installed()
    const program = "console.log(require('s4-node').diagnose().devices[0].threads)"
    assert.equal(run(project, ['node', '-e', program]).text.trim(), String(availableParallelism()))
    const inside = `echo $$ > ${folder}/cgroup.procs && exec node -e "${program}"`
    assert.equal(run(project, ['sh', '-c', inside]).text.trim(), '1')
  } finally {
    rmdirSync(folder)
  }
})
