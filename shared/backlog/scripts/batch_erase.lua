-- Forget a batch that has ended. Its jobs are kept and forgotten each by itself.
-- ARGV: batch
-- Returns 'ok' | 'not_finished'.
local batch = ARGV[1]
local b = redis.call('HMGET', P .. 'b:' .. batch, 'account', 'finished', 'outcome')
if b[1] and not b[2] then return 'not_finished' end
redis.call('ZREM', P .. 'bdone', batch)
redis.call('ZREM', P .. 'bz', batch)
if not b[1] then return 'ok' end
for outcome = 1, tonumber(b[3] or 0) do
  local entry = batch .. ':' .. outcome
  redis.call('ZREM', P .. 'ob', entry)
  redis.call('ZREM', P .. 'ob:dead', entry)
  redis.call('ZREM', P .. 'ob:dead:' .. b[1], entry)
  redis.call('DEL', P .. 'ob:' .. entry)
end
redis.call('LREM', P .. 'bx:' .. b[1], 1, batch)
redis.call('UNLINK', P .. 'b:' .. batch, P .. 'bl:' .. batch, P .. 'bu:' .. batch, P .. 'bq:' .. batch, P .. 'bh:' .. batch,
  P .. 'ba:' .. batch, P .. 'told:' .. batch)
return 'ok'
