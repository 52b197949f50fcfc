// What an agent does with E2B's JavaScript package, against a sandbox in debug mode: commands, files, terminals, watches, git.
import assert from 'node:assert/strict'
import { CommandExitError, FilesystemEventType, NotFoundError, Sandbox, TimeoutError } from 'e2b'

const box = await Sandbox.create()
assert.ok(await box.isRunning())
assert.equal((await box.commands.run('echo $GREETING', { envs: { GREETING: 'hello' } })).stdout, 'hello\n')
await assert.rejects(box.commands.run('echo no >&2; exit 3'), (error) => error instanceof CommandExitError && error.exitCode === 3 && error.stderr === 'no\n')
await assert.rejects(box.commands.run('sleep 60', { timeoutMs: 1_000 }), TimeoutError)

const cat = await box.commands.run('cat', { background: true, stdin: true })
await box.commands.sendStdin(cat.pid, 'typed\n')
assert.ok((await box.commands.list()).some((process) => process.pid === cat.pid))
assert.equal((await box.commands.connect(cat.pid)).pid, cat.pid)
assert.ok(await box.commands.kill(cat.pid))
await cat.wait().catch(() => {})

await box.files.write('work/text.txt', 'text', { metadata: { author: 'agent' } })
const bytes = new Uint8Array(1 << 20).map((_, n) => n % 251)
await box.files.write('work/bytes.bin', new Blob([bytes]))
assert.deepEqual(await box.files.read('work/bytes.bin', { format: 'bytes' }), bytes)
assert.deepEqual((await box.files.getInfo('work/text.txt')).metadata, { author: 'agent' })
assert.deepEqual((await box.files.list('work')).map((entry) => entry.name), ['bytes.bin', 'text.txt'])
await box.files.rename('work/text.txt', 'work/renamed.txt')
assert.equal(await box.files.exists('work/text.txt'), false)
await assert.rejects(box.files.read('work/nowhere'), NotFoundError)

const seen = Promise.withResolvers?.() ?? (() => { let resolve; const promise = new Promise((r) => { resolve = r }); return { promise, resolve } })()
const watch = await box.files.watchDir('work', (event) => { if (event.name === 'deep/seen' && event.type === FilesystemEventType.WRITE) seen.resolve() }, { recursive: true })
await box.files.makeDir('work/deep')
await box.files.write('work/deep/seen', 'x')
await seen.promise
await watch.stop()

const shown = []
const terminal = await box.pty.create({ cols: 80, rows: 24, onData: (data) => { shown.push(Buffer.from(data)) }, timeoutMs: 30_000 })
await box.pty.sendInput(terminal.pid, new TextEncoder().encode('stty size; exit\n'))
await terminal.wait()
assert.match(Buffer.concat(shown).toString(), /24 80/)

await box.git.init('repo-js')
await box.git.configureUser('Agent', 'agent@example.org')
await box.files.write('repo-js/file', 'content')
await box.git.add('repo-js')
await box.git.commit('repo-js', 'first')
assert.ok((await box.git.status('repo-js')).isClean)
console.log('javascript: all done')
process.exit(0)
