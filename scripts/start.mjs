// npm start: sets everything up, then runs `s4 demo`: trains on an electrocardiogram, forecasts and streams it, and writes
// report/index.html.
import { must, run, setup } from './setup.mjs'

setup()
must('The demonstration', run(process.execPath, ['cli/bin/s4.mjs', 'demo', ...process.argv.slice(2)]))
