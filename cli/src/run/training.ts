/** Runs a training in its folder: events to history.jsonl, the event file and the progress line; Ctrl-C saves; the report at the end. */
import { joinGroup, type ProcessGroup } from 's4-node'
import type { TaskEvent } from 's4-node/tasks'
import { untilInterrupted } from '../interrupt.js'
import { progress } from '../progress.js'
import { taskOf } from '../task/tasks.js'
import type { Settings } from '../task/settings.js'
import type { RunFolder } from './folder.js'
import { EventFile } from './tensorboard.js'

/** Gives the exit code. */
export async function runInFolder(
  open: () => RunFolder,
  settings: Settings,
  { json, live }: { json: boolean; live: boolean },
): Promise<number> {
  const group = await joinGroup()
  try {
    return group.rank === 0
      ? await runOfFirst(open, settings, { json, live }, group)
      : await runOfAnother(settings, group)
  } finally {
    await group.close()
  }
}

/** The part of a rank other than 0, which has neither a folder nor anything to tell. */
async function runOfAnother(settings: Settings, group: ProcessGroup): Promise<number> {
  const data = await taskOf(settings.task).read(settings)
  const stop = new AbortController()
  const { interrupted, made } = await untilInterrupted((signal) =>
    data.fit({ signal, stop: stop.signal, onEvent: () => undefined, distributed: group }),
  )
  made?.dispose()
  return interrupted === undefined ? 0 : 128 + interrupted
}

/** The part of rank 0, or of the only process. */
async function runOfFirst(
  open: () => RunFolder,
  settings: Settings,
  { json, live }: { json: boolean; live: boolean },
  group: ProcessGroup,
): Promise<number> {
  const data = await taskOf(settings.task).read(settings)
  // A folder is made when the data are known to be readable.
  const folder = open()
  if (folder.ended)
    throw new Error(`the run in ${folder.path} has ended: \`s4 eval ${folder.path} DATA\` tells how it does`)
  folder.checkData(data.summary)
  const events = new EventFile(folder.path)
  const bar = progress('train')
  const stop = new AbortController()
  const page = live
    ? await (
        await import('../live/live.js')
      ).LivePage.open(folder.path, `s4 train ${settings.task}: ${folder.path}`, stop)
    : undefined
  if (page !== undefined) console.error(`live: ${page.url}`)
  let epochs = 0
  const onEvent = (event: TaskEvent): void => {
    page?.event(event)
    switch (event.type) {
      case 'plan':
        console.error(event.text)
        break
      case 'step': {
        const { step, of, epoch, loss } = event
        bar.update(step, of, `epoch ${epoch} loss ${loss.toFixed(4)}`)
        events.scalars(step, { 'loss/update': loss })
        return
      }
      case 'epoch': {
        const { epoch, loss, mse, accuracy, validationLoss } = event
        epochs = epoch
        events.scalars(epoch, {
          'loss/epoch': loss,
          ...(mse !== undefined && { 'validation/mse': mse }),
          ...(accuracy !== undefined && { 'validation/accuracy': accuracy }),
          ...(validationLoss !== undefined && { 'validation/loss': validationLoss }),
        })
        const { forecast: _forecast, confusion: _confusion, ...kept } = event
        folder.record(kept)
        return
      }
      case 'end':
        bar.end(
          `${event.epoch} epochs in ${event.seconds.toFixed(0)} s (${REASONS[event.reason]}); the best was ${event.bestEpoch}`,
        )
    }
    folder.record(event)
  }
  let ended = 'The training failed: the terminal says why.'
  try {
    const { code, text } = await trained()
    ended = text
    return code
  } finally {
    await page?.close(ended)
  }

  /** Trains, and writes what came of it; gives the exit code, and how it ended. */
  async function trained(): Promise<{ code: number; text: string }> {
    const { interrupted, made } = await untilInterrupted((signal) =>
      data.fit({
        folder: folder.path,
        resume: true,
        signal,
        stop: stop.signal,
        onEvent,
        distributed: group,
      }),
    )
    if (made === undefined) {
      bar.end()
      console.error(
        `stopped; ${epochs === 0 ? 'no epoch of this call was over' : `epoch ${epochs} is saved`} in ${folder.path}; \`s4 train --resume ${folder.path}\` goes on`,
      )
      return { code: 128 + (interrupted as number), text: 'Ended by Ctrl-C; what was learned is saved.' }
    }
    try {
      await made.save(folder.best)
      const {
        result,
        text,
        page: report,
      } = await made.judge(
        folder.history(),
        settings,
        await (await import('../report/inside.js')).insideSections(folder.best, await made.inspect()),
      )
      folder.writeReport(report)
      folder.writeResult(result)
      console.log(json ? JSON.stringify({ run: folder.path, ...result }) : text)
      console.error(`run: ${folder.path} (report.html, best.safetensors)`)
      return { code: 0, text: `Ended: ${text.split('\n')[0]}. The run is in ${folder.path}.` }
    } finally {
      made.dispose()
    }
  }
}

const REASONS = {
  epochs: 'all that were planned',
  patience: 'no better any more',
  time: 'the time was over',
  stop: 'stopped',
}
