/** Calls: naive Fibonacci. */
function fib(n) {
  return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

export const run = () => fib(30);
