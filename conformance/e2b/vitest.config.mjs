// Runs E2B's own suite of a checkout (E2B_CHECKOUT) with the published package in the place of the checkout's source: whatever imports the
// source's entry gets the package. Its internals, which some tests look into, stay the checkout's.
import { existsSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { defineConfig } from 'vitest/config'

const root = resolve(process.env.E2B_CHECKOUT ?? '.', 'packages/js-sdk')
const entry = join(root, 'src')
const here = dirname(new URL(import.meta.url).pathname)

const published = {
  name: 'published',
  enforce: 'pre',
  resolveId(source, importer) {
    if (importer && source.startsWith('.')) {
      const wanted = resolve(dirname(importer), source)
      const inTests = importer.startsWith(join(root, 'tests'))
      if (inTests && ['', 'index', 'index.ts', 'index.js', 'errors', 'errors.js', 'errors.ts'].some((name) => join(entry, name) === wanted)) {
        return join(here, 'node_modules/e2b/dist/index.mjs')
      }
      return null
    }
    // What the checkout needs is what is installed here.
    if (importer?.startsWith(root) && !source.startsWith('node:') && existsSync(join(here, 'node_modules', source.split('/').slice(0, source.startsWith('@') ? 2 : 1).join('/')))) {
      return this.resolve(source, join(here, 'package.json'), { skipSelf: true })
    }
    return null
  },
}

export default defineConfig({
  root,
  plugins: [published],
  server: { fs: { strict: false } },
  test: {
    include: (process.env.E2B_SUITE ?? 'tests/sandbox/{commands,files,pty,git}/**/*.test.ts').split(' '),
    testTimeout: 30_000,
    hookTimeout: 30_000,
    isolate: true,
    environment: 'node',
    setupFiles: [join(root, 'tests/globalFetchFallback.setup.ts')],
    // In debug mode there is one sandbox for all.
    fileParallelism: process.env.E2B_MODE === 'full',
    maxWorkers: 3,
  },
})
