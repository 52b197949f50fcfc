// What an agent's program does with E2B's JavaScript package, case by case, against a node of ours. Prints `ok NAME`, `not ok NAME: why` or
// `passed over NAME: why` of each. It is told by the environment alone where the node is, as E2B's documentation has it.
import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { AuthenticationError, CommandExitError, FilesystemEventType, NotFoundError, Sandbox, SandboxError, Template, TimeoutError } from 'e2b'

const mark = `javascript-${Date.now()}`
const server = (port) =>
  `node -e "require('http').createServer((q, a) => a.end(require('fs').readFileSync('.' + q.url))).listen(${port}, '127.0.0.1')"`

class PassedOver extends Error {}

const create = (options = {}) => Sandbox.create({ metadata: { test: mark }, timeoutMs: 120_000, ...options })

async function until(what, found, within = 15_000) {
  for (const ends = Date.now() + within; Date.now() < ends; await sleep(100)) if (await found()) return
  throw new Error(`${what}: not within ${within} ms`)
}

async function serve(box, port, path = '', headers = {}) {
  await box.files.write('page.txt', 'from within')
  await box.commands.run(server(port), { background: true })
  const url = `https://${box.getHost(port)}/${path}`
  await until('a server within answers', async () => (await fetch(url, { headers })).status === 200)
  return url
}

const cases = {
  async life() {
    const box = await create({ envs: { GREETING: 'hello' } })
    assert.ok(await box.isRunning())
    const info = await box.getInfo()
    assert.deepEqual([info.metadata, info.state, info.templateId], [{ test: mark }, 'running', 'base'])
    assert.equal((await box.commands.run('echo $GREETING $(id -un) $(pwd)')).stdout, 'hello user /home/user\n')
    await box.setTimeout(600_000)
    assert.ok((await box.getInfo()).endAt > info.endAt)
    const again = await Sandbox.connect(box.sandboxId)
    assert.equal((await again.commands.run('echo again')).stdout, 'again\n')
    assert.deepEqual([await box.kill(), await Sandbox.kill(box.sandboxId), await box.isRunning()], [true, false, false])
    await assert.rejects(Sandbox.connect(box.sandboxId), SandboxError)
  },

  async lists_by_metadata_and_state() {
    const boxes = [await create(), await create(), await create()]
    await boxes[0].pause()
    const found = {}
    const pages = Sandbox.list({ query: { metadata: { test: mark } }, limit: 2 })
    while (pages.hasNext) for (const info of await pages.nextItems()) found[info.sandboxId] = info.state
    for (const box of boxes) assert.equal(found[box.sandboxId], box === boxes[0] ? 'paused' : 'running')
    const paused = await Sandbox.list({ query: { metadata: { test: mark }, state: ['paused'] } }).nextItems()
    assert.deepEqual(paused.map((info) => info.sandboxId), [boxes[0].sandboxId])
    for (const box of boxes) await box.kill()
  },

  async time_is_up() {
    const box = await create({ timeoutMs: 2_000 })
    await until('it goes by itself', async () => !(await box.isRunning()))
    const other = await create()
    await other.setTimeout(0)
    await until('it goes at once', async () => !(await other.isRunning()))
  },

  async commands() {
    const box = await create()
    const failed = (error) => error instanceof CommandExitError && error.exitCode === 3 && error.stderr === 'no\n'
    await assert.rejects(box.commands.run('echo no >&2; exit 3'), failed)
    await assert.rejects(box.commands.run('sleep 60', { timeoutMs: 1_000 }), TimeoutError)
    assert.equal((await box.commands.run('echo $A; pwd', { envs: { A: 'b' }, cwd: '/tmp' })).stdout, 'b\n/tmp\n')
    assert.equal((await box.commands.run('id -u', { user: 'root' })).stdout, '0\n')
    const cat = await box.commands.run('cat', { background: true, stdin: true })
    await box.commands.sendStdin(cat.pid, 'typed\n')
    assert.ok((await box.commands.list()).some((process) => process.pid === cat.pid))
    assert.equal((await box.commands.connect(cat.pid)).pid, cat.pid)
    assert.ok(await box.commands.kill(cat.pid))
    await cat.wait().catch(() => {})
    await box.kill()
  },

  async output_streams_while_a_command_runs() {
    const box = await create()
    const told = []
    const note = (which) => (text) => { told.push([which, text, performance.now()]) }
    const line = 'echo one; sleep 0.5; echo two >&2; sleep 0.5; echo three'
    const result = await box.commands.run(line, { onStdout: note('out'), onStderr: note('err') })
    assert.deepEqual(told.map(([which, text]) => [which, text]), [['out', 'one\n'], ['err', 'two\n'], ['out', 'three\n']])
    assert.ok(told[2][2] - told[0][2] > 500 && result.stdout === 'one\nthree\n')
    assert.equal((await box.commands.run("head -c 5000000 /dev/zero | tr '\\0' x")).stdout, 'x'.repeat(5_000_000))
    await box.kill()
  },

  async terminals() {
    const box = await create()
    const shown = []
    const terminal = await box.pty.create({ cols: 80, rows: 24, onData: (data) => { shown.push(Buffer.from(data)) }, timeoutMs: 30_000 })
    await box.pty.resize(terminal.pid, { cols: 100, rows: 40 })
    await box.pty.sendInput(terminal.pid, new TextEncoder().encode('stty size; exit\n'))
    await terminal.wait()
    assert.match(Buffer.concat(shown).toString(), /40 100/)
    await box.kill()
  },

  async files() {
    const box = await create()
    await box.files.write('work/text.txt', 'text', { metadata: { author: 'agent' } })
    const bytes = new Uint8Array(1 << 20).map((_, n) => n % 251)
    await box.files.write('work/bytes.bin', new Blob([bytes]))
    assert.deepEqual(await box.files.read('work/bytes.bin', { format: 'bytes' }), bytes)
    assert.deepEqual((await box.files.getInfo('work/text.txt')).metadata, { author: 'agent' })
    assert.deepEqual((await box.files.list('work')).map((entry) => entry.name), ['bytes.bin', 'text.txt'])
    await box.files.rename('work/text.txt', 'work/renamed.txt')
    assert.equal(await box.files.exists('work/text.txt'), false)
    assert.equal(await box.files.read('work/renamed.txt', { gzip: true }), 'text')
    await assert.rejects(box.files.read('work/nowhere'), NotFoundError)
    await box.kill()
  },

  async watches() {
    const box = await create()
    await box.files.makeDir('work')
    const seen = []
    const watch = await box.files.watchDir('work', (event) => { seen.push(`${event.type} ${event.name}`) }, { recursive: true })
    await box.files.makeDir('work/deep')
    await box.files.write('work/deep/seen', 'x')
    await until('the write is told', () => seen.includes(`${FilesystemEventType.WRITE} deep/seen`))
    await watch.stop()
    await box.kill()
  },

  async signed_urls() {
    const box = await create()
    await box.files.write('secret.txt', 'signed')
    const url = await box.downloadUrl('secret.txt', { useSignatureExpiration: 60_000 })
    assert.equal(await (await fetch(url)).text(), 'signed')
    assert.equal((await fetch(url.split('&signature')[0])).status, 401)
    const form = new FormData()
    form.append('file', new Blob(['uploaded']), 'up.txt')
    assert.equal((await fetch(await box.uploadUrl('up.txt'), { method: 'POST', body: form })).status, 200)
    assert.equal(await box.files.read('up.txt'), 'uploaded')
    await box.kill()
  },

  async ports_by_host() {
    const box = await create()
    const url = await serve(box, 8000, 'page.txt')
    assert.equal(await (await fetch(url)).text(), 'from within')
    assert.equal((await fetch(`https://${box.getHost(8001)}/`)).status, 502)
    await box.kill()
    assert.equal((await fetch(url)).status, 502)
  },

  async private_ports() {
    const box = await create({ network: { allowPublicTraffic: false } })
    const url = await serve(box, 8000, 'page.txt', { 'e2b-traffic-access-token': box.trafficAccessToken })
    const ask = async (token) => (await fetch(url, { headers: token ? { 'e2b-traffic-access-token': token } : {} })).status
    assert.deepEqual([await ask(), await ask('0'.repeat(64))], [403, 403])
    await box.kill()
  },

  async pause_and_resume() {
    const box = await create()
    const slept = await box.commands.run('sleep 1000', { background: true })
    slept.wait().catch(() => {})
    await box.files.write('kept', 'kept')
    assert.deepEqual([await box.pause(), await box.pause(), await box.isRunning()], [true, false, false])
    await box.connect()
    assert.ok((await box.commands.list()).some((process) => process.pid === slept.pid), 'memory is kept')
    await box.pause({ keepMemory: false })
    await box.connect()
    assert.equal(await box.files.read('kept'), 'kept')
    assert.deepEqual(await box.commands.list(), [], 'files alone were kept')
    await box.kill()
  },

  async traffic_resumes() {
    const box = await create({ lifecycle: { onTimeout: 'pause', autoResume: true } })
    const url = await serve(box, 8000, 'page.txt')
    await box.setTimeout(0)
    await until('it pauses when its time is up', async () => (await box.getInfo()).state === 'paused')
    assert.equal((await fetch(url)).status, 200)
    assert.equal((await box.getInfo()).state, 'running')
    await box.kill()
  },

  async snapshots() {
    const box = await create()
    await box.files.write('state', 'then')
    const snapshot = await box.createSnapshot()
    await box.files.write('state', 'now')
    const other = await Sandbox.create(snapshot.snapshotId)
    assert.deepEqual([await other.files.read('state'), await box.files.read('state')], ['then', 'now'])
    await other.kill()
    assert.deepEqual([await Sandbox.deleteSnapshot(snapshot.snapshotId), await Sandbox.deleteSnapshot(snapshot.snapshotId)], [true, false])
    await box.kill()
  },

  async forks() {
    const box = await create()
    await box.files.write('state', 'parent')
    const [one, two] = await box.fork({ count: 2, timeoutMs: 60_000 })
    await one.files.write('state', 'one')
    const states = await Promise.all([box, one, two].map((each) => each.files.read('state')))
    assert.deepEqual(states, ['parent', 'one', 'parent'])
    for (const each of [box, one, two]) await each.kill()
  },

  async the_network_changes_while_it_runs() {
    const box = await create({ allowInternetAccess: false })
    await assert.rejects(box.commands.run('curl -sS --max-time 10 http://192.0.2.1/'), (error) => error.exitCode === 7)
    await box.updateNetwork({ allowOut: ['192.0.2.0/24'], denyOut: ['0.0.0.0/0'] })
    const { network } = await box.getInfo()
    assert.deepEqual([network.allowOut, network.denyOut], [['192.0.2.0/24'], ['0.0.0.0/0']])
    await box.updateNetwork({})
    await assert.rejects(box.updateNetwork({ rules: { 'a.example': [{ transform: { headers: { x: 'y' } } }] } }), /rules/)
    await assert.rejects(create({ network: { egressProxy: { address: 'proxy.example:1080' } } }), /egressProxy/)
    await box.kill()
  },

  async templates() {
    const folder = await mkdtemp(join(tmpdir(), 'skep-template-'))
    await writeFile(join(folder, 'greeting.txt'), 'hello')
    const template = Template({ fileContextPath: folder })
      .fromBaseImage()
      .copy('greeting.txt', '/opt/made/', { user: 'root' })
      .setEnvs({ STAGE: 'built' })
      .setWorkdir('/opt/made')
      .setStartCmd('touch /tmp/started; exec sleep 1000', 'test -e /tmp/started')
    const name = `made-${mark}`
    const lines = []
    await Template.build(template, `${name}:v1`, { cpuCount: 1, memoryMB: 512, onBuildLogs: (line) => lines.push(line.message) })
    assert.ok(lines.some((line) => line.includes('COPY greeting.txt')), lines.join('\n'))
    const box = await Sandbox.create(`${name}:v1`, { timeoutMs: 120_000, metadata: { test: mark } })
    assert.equal((await box.commands.run('pwd; echo $STAGE; cat greeting.txt; ls /tmp/started')).stdout, '/opt/made\nbuilt\nhello/tmp/started\n')
    await box.kill()
    assert.deepEqual((await Template.assignTags(`${name}:v1`, 'stable')).tags, ['stable'])
    assert.deepEqual((await Template.getTags(name)).map((tag) => tag.tag).sort(), ['stable', 'v1'])
    assert.equal(await Template.exists(name), true)
    await assert.rejects(Template.build(Template().fromTemplate(name).runCmd('true'), `broken-${mark}`), /404|no template/)
    await assert.rejects(Template.build(Template().fromTemplate(`${name}:stable`).runCmd('exit 3'), `broken-${mark}`), /code 3/)
    await rm(folder, { recursive: true })
  },

  async metrics() {
    const box = await create()
    await until('it is measured', async () => (await box.getMetrics()).length > 0)
    const [sample] = await box.getMetrics()
    assert.ok(sample.cpuCount >= 1 && sample.memTotal > 0 && sample.diskTotal > 0)
    await box.kill()
  },

  async git() {
    const box = await create()
    await box.git.init('repo')
    await box.git.configureUser('Agent', 'agent@example.org')
    await box.files.write('repo/file', 'content')
    await box.git.add('repo')
    await box.git.commit('repo', 'first')
    assert.ok((await box.git.status('repo')).isClean)
    await box.kill()
  },

  async strangers_get_nowhere() {
    const box = await create()
    await assert.rejects(Sandbox.connect(box.sandboxId, { apiKey: `e2b_${'0'.repeat(40)}` }), AuthenticationError)
    const url = `https://${box.getHost(49983)}/metrics`
    assert.equal((await fetch(url)).status, 401)
    assert.equal((await fetch(url, { headers: { 'X-Access-Token': '0'.repeat(64) } })).status, 401)
    await box.kill()
  },

  async code_runs_in_contexts() {
    const interpreter = await import('@e2b/code-interpreter').catch((error) => { throw new PassedOver(error.message) })
    const box = await interpreter.Sandbox.create({ metadata: { test: mark }, timeoutMs: 120_000 })
    const ran = await box.runCode('let a = 20; a + 22', { language: 'javascript' })
    assert.deepEqual([ran.error, ran.text], [undefined, '42'])
    const context = await box.createCodeContext({ language: 'javascript' })
    assert.match((await box.runCode('typeof a', { context })).text, /undefined/)
    assert.equal((await box.runCode("throw new TypeError('no')", { language: 'javascript' })).error.name, 'TypeError')
    await box.kill()
  },
}

let failed = 0
for (const [name, run] of Object.entries(cases)) {
  const began = performance.now()
  const late = sleep(60_000, undefined, { ref: false }).then(() => { throw new Error('it takes longer than a minute') })
  try {
    await Promise.race([run(), late])
    console.log(`ok ${name} (${((performance.now() - began) / 1_000).toFixed(1)} s)`)
  } catch (error) {
    const [at] = /sdk\.mjs:\d+/.exec(error.stack ?? '') ?? ['']
    if (error instanceof PassedOver) console.log(`passed over ${name}: ${error.message}`)
    else console.log(`not ok ${name}: ${error.name}: ${String(error.message).slice(0, 600).replaceAll('\n', ' ')} (${at})`)
    failed += !(error instanceof PassedOver)
  }
}
process.exit(failed ? 1 : 0)
