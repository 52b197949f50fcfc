-- Spreads requests over the paths /0 … /<n-1>: wrk -s spread.lua URL -- n
local n

function init(args)
  n = tonumber(args[1])
  math.randomseed(1)
end

function request()
  return wrk.format(nil, "/" .. math.random(0, n - 1))
end
