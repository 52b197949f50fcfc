/** node:path, posix and win32. */
import path, { posix, win32 } from "node:path";
import p2 from "path";

export const cases = {
  "join": [() => [path.join("a", "..", "b", "./c", "", "/d"), path.join(""), path.join("/a", "../../b"), path.join("a/", "/b/")], ["b/c/d", ".", "/b", "a/b/"]],
  "resolve": [() => [path.resolve("/a", "b", "../c"), path.resolve("/a", "/b"), path.resolve("/"), path.resolve("/a", "", ".")], ["/a/c", "/b", "/", "/a"]],
  "resolve of a relative path": [() => path.resolve("x")],
  "normalize": [() => ["/a//b/../c/.", "", "./a/..", "../..", "/..", "a//", "//a"].map((x) => path.normalize(x)), ["/a/c", ".", ".", "../..", "/", "a/", "/a"]],
  "basename": [() => [path.basename("/a/b.txt"), path.basename("/a/b.txt", ".txt"), path.basename("/a/b/"), path.basename(""), path.basename("a.txt", "a.txt"), path.basename("/")], ["b.txt", "b", "b", "", "", ""]],
  "dirname and extname": [() => [path.dirname("/a/b/c"), path.dirname("/a"), path.dirname("a"), path.dirname(""), path.dirname("//a"), path.extname("a.b.c"), path.extname(".bashrc"), path.extname("a."), path.extname("a/b.c/d")], ["/a/b", "/", ".", ".", "//", ".c", "", ".", ""]],
  "relative": [() => [path.relative("/a/b/c", "/a/d"), path.relative("/a", "/a"), path.relative("/a", "/a/b"), path.relative("/", "/x/y")], ["../../d", "", "b", "x/y"]],
  "parse and format": [() => [path.parse("/home/u/f.tar.gz"), path.parse("./a"), path.format({ dir: "/d", base: "b.x" }), path.format({ root: "/", name: "n", ext: "e" })], [{ root: "/", dir: "/home/u", base: "f.tar.gz", ext: ".gz", name: "f.tar" }, { root: "", dir: ".", base: "a", ext: "", name: "a" }, "/d/b.x", "/n.e"]],
  "isAbsolute, sep, delimiter": [() => [path.isAbsolute("/a"), path.isAbsolute("a"), path.isAbsolute(""), path.sep, path.delimiter], [true, false, false, "/", ":"]],
  "non-strings": [(t) => [t.error(() => path.join(1)), t.error(() => path.basename(null)), t.error(() => path.format("x"))], Array(3).fill("TypeError[ERR_INVALID_ARG_TYPE]")],
  "win32": [(t) => t.error(() => [win32.join("a", "..\\b", "c/d"), win32.resolve("C:\\a", "..\\b"), win32.parse("C:\\x\\y.z"), win32.relative("C:\\a\\b", "C:\\a\\c"), win32.isAbsolute("C:/x"), win32.sep, win32.normalize("C:/a/../b")])],
  "exports": [() => [path.posix === posix, path === p2, posix.win32 === win32, typeof path.matchesGlob, path.toNamespacedPath("/a")]],
};
