// npm start: sets up, then trains on the real electrocardiogram, forecasts, streams it and writes report/index.html.
import { must, run, setup } from './setup.mjs'

setup()
must('The demonstration', run(process.execPath, ['cli/bin/s4.mjs', 'demo', ...process.argv.slice(2)]))
