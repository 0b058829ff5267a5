import { Classifier } from 's4-node/tasks'
const c = await Classifier.load('/tmp/m/srv/tones/best.safetensors')
await c.predict([[1, 'a', 2]]).catch((e) => console.log(e.code, e))
