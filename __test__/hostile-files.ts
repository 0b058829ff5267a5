/** Damaged and hostile checkpoint files, each with a part of the reason for which it must be refused. */
import {
  bytes,
  called,
  checkpointFile,
  dict,
  named,
  pickle,
  storage,
  text,
  tuple,
  view,
  whole,
  zip,
  type ZipEntry,
} from './torch-files.js'

export interface HostileFile {
  readonly what: string
  readonly file: Uint8Array
  readonly reason: RegExp
}

const floats = (elements: number | bigint, key = '0') => storage('FloatStorage', key, elements)
const weights = (value: Uint8Array) => pickle(dict({ w: value }))
/** The pickle of one tensor of four floats, of which something may be wrong. */
const tensor = (elements: number | bigint, offset: number, size: number[], stride: number[]) =>
  weights(view(floats(elements), offset, size, stride))
const sound = tensor(4, 0, [2, 2], [2, 1])
const raw = new Uint8Array(16)

/** Classes and functions that run something: a pickle calls each with the text `command`. */
const callables: readonly (readonly [module: string, name: string])[] = [
  ['os', 'system'],
  ['posix', 'system'],
  ['nt', 'system'],
  ['os', 'popen'],
  ['subprocess', 'Popen'],
  ['subprocess', 'check_output'],
  ['builtins', 'eval'],
  ['builtins', 'exec'],
  ['builtins', 'getattr'],
  ['builtins', '__import__'],
  ['__builtin__', 'eval'],
  ['importlib', 'import_module'],
  ['runpy', '_run_code'],
  ['functools', 'partial'],
  ['operator', 'attrgetter'],
  ['pickle', 'loads'],
  ['torch', 'load'],
  ['torch.hub', 'load'],
  ['torch.storage', '_load_from_bytes'],
  ['torch.jit', 'load'],
]

function pickles(command: string): (readonly [what: string, code: Uint8Array, reason: RegExp])[] {
  return [
    ...callables.map(
      ([module, name]) =>
        [
          `REDUCE of ${module}.${name}`,
          weights(called(named(module, name), text(command))),
          /the name '/,
        ] as const,
    ),
    ['a GLOBAL alone', weights(named('os', 'system')), /'os\.system'/],
    [
      'a GLOBAL among the hyper-parameters',
      pickle(dict({ hyper_parameters: called(named('os', 'system'), text(command)), state_dict: dict({}) })),
      /'os\.system'/,
    ],
    ['a call of a text', weights(called(text('eval'), text(command))), /REDUCE of a name/],
    ['a call of what an unknown class gave', weights(called(called(named('src', 'f')))), /REDUCE of a name/],
    ['BUILD of a class', weights(bytes(named('src', 'A'), dict({}), 'b')), /BUILD/],
    ['an object as weights', weights(called(named('src', 'Net'))), /tensor/],
    [
      'a whole module',
      pickle(dict({ model: called(named('src.models', 'Net')) })),
      /save model\.state_dict\(\)/,
    ],
    ['the opcode INST', pickle('(ios\nsystem\n'), /INST/],
    ['the opcode STACK_GLOBAL', pickle(text('os'), text('system'), [0x93]), /STACK_GLOBAL/],
    ['the opcode NEWOBJ_EX', pickle([0x92]), /NEWOBJ_EX/],
    ['the opcode EXT1', pickle([0x82, 1]), /EXT1/],
    ['an unknown opcode', pickle([0xff]), /0xff/],
    ['another protocol', bytes([0x80, 9], 'N.'), /protocol 2 to 5/],
    ['no end', bytes([0x80, 2], 'N'), /more bytes/],
    ['bytes after the end', bytes(sound, 'x'), /nothing after STOP/],
    ['half a pickle', sound.subarray(0, sound.length / 2), /more bytes/],
    ['a text of 4 GiB', pickle('X\xff', 'abc').fill(0xff, 3, 7), /more bytes|UTF-8/],
    ['a value that was never kept', pickle('h\x07'), /a memo/],
    ['2,200,000 kept values', endlessMemo(), /memos/],
    ['100,000 open marks', pickle('('.repeat(100_000)), /open marks/],
    ['100,000 tuples in tuples', pickle(')', new Uint8Array(100_000).fill(0x85)), /in one another/],
    ['3,000,000 values on the stack', pickle('N'.repeat(3_000_000)), /on the stack/],
    ['3,000,000 objects', pickle(']', ')a'.repeat(3_000_000)), /objects/],
    ['a storage that is not there', weights(view(floats(4, '9'), 0, [4], [1])), /data\/9/],
    ['a storage with a path', weights(view(floats(4, '../0'), 0, [4], [1])), /key in digits/],
    ['a storage of more than its entry', tensor(5, 0, [4], [1]), /of the 16 bytes/],
    ['a storage of 2^62 elements', tensor(2n ** 62n, 0, [4], [1]), /of the 16 bytes/],
    ['a negative size', tensor(4, 0, [-4], [1]), /a size of at least 0/],
    ['a negative stride', tensor(4, 3, [4], [-1]), /a stride of at least 0/],
    ['one element beyond the storage', tensor(4, 1, [4], [1]), /within storage/],
    ['sizes that overflow', tensor(4, 0, [2 ** 40, 2 ** 40], [0, 0]), /within storage/],
    ['4 TiB of one value', tensor(4, 0, [2 ** 40], [0]), /tensors of at most/],
    [
      '40 dimensions',
      tensor(4, 0, Array(40).fill(1) as number[], Array(40).fill(1) as number[]),
      /at most 32/,
    ],
    ['another persistent id', weights(bytes(tuple(text('module'), text('os')), 'Q')), /something else/],
    ['a list of nothing', pickle(']'), /a dict of tensors/],
    ['no tensors', pickle(dict({ epoch: whole(3) })), /'epoch'/],
  ]
}

function endlessMemo(): Buffer {
  const count = 2_200_000
  const puts = Buffer.alloc(5 * count)
  for (let i = 0; i < count; i++) {
    puts[5 * i] = 0x72
    puts.writeUInt32LE(i, 5 * i + 1)
  }
  return pickle('N', puts)
}

function archives(): (readonly [what: string, file: Uint8Array, reason: RegExp])[] {
  const file = checkpointFile(sound, [raw])
  const withEntry = (...more: ZipEntry[]) => checkpointFile(sound, [raw], more)
  const pkl: ZipEntry = { name: 'm/data.pkl', data: sound }
  const values: ZipEntry = { name: 'm/data/0', data: raw }
  const tar = Buffer.alloc(512)
  tar.write('ustar', 257)
  return [
    ['an empty file', new Uint8Array(0), /an empty file/],
    ['text', bytes('hello'), /something else/],
    [
      'a legacy pickle',
      bytes([0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19], '.'),
      /a legacy pickle \(written before PyTorch 1\.6/,
    ],
    ['a legacy tar archive', tar, /a legacy tar/],
    ['a bare pickle', sound, /a bare pickle/],
    ...[1, 2, 3].map(
      (part) =>
        [
          `${part} quarters of a file`,
          file.subarray(0, (file.length * part) / 4),
          /a sound zip archive/,
        ] as const,
    ),
    ['a wrong checksum', zip([pkl, { ...values, checksum: 1 }]), /a sound entry/],
    [
      'a zip bomb',
      zip([pkl, { name: 'm/data/0', data: new Uint8Array(80 << 20), deflated: true }]),
      /unfold/,
    ],
    [
      'a pickle that unfolds',
      zip([{ ...pkl, data: new Uint8Array(80 << 20), deflated: true }]),
      /at most|unfold/,
    ],
    ['a size that is not there', zip([pkl, { ...values, size: 0x7fff_ffff }]), /./],
    ['an entry over another', zip([pkl, { ...values, offset: 0 }]), /./],
    ['an entry above the archive', withEntry({ name: '../evil', data: raw }), /evil/],
    ['an entry of an absolute path', withEntry({ name: '/etc/passwd', data: raw }), /etc\/passwd/],
    ['TorchScript', withEntry({ name: 'm/code/x.py', data: raw }), /TorchScript/],
    ['two pickles', withEntry({ name: 'n/data.pkl', data: sound }), /one entry NAME\/data\.pkl/],
    ['no pickle', zip([values]), /an entry NAME\/data\.pkl/],
    ['big-endian values', zip([pkl, values, { name: 'm/byteorder', data: bytes('big') }]), /'little'/],
    ['a program before the archive', bytes('#!/bin/sh\n', file), /something else/],
  ]
}

/** All of them. `command` is what those that run a command would run. */
export function hostileFiles(command: string): HostileFile[] {
  return [
    ...pickles(command).map(([what, code, reason]) => ({ what, file: checkpointFile(code, [raw]), reason })),
    ...archives().map(([what, file, reason]) => ({ what, file, reason })),
  ]
}
