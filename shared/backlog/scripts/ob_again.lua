-- Somebody asks for the closing webhook of a job or a batch once more: it is due now, and its attempts are counted anew.
-- ARGV: uid or number of a batch, account, nonce
-- Returns 'none' | 'not_finished' | 'no_webhook' | 'ok', and the entry.
local uid, account, nonce = ARGV[1], ARGV[2], ARGV[3]
local j = redis.call('HMGET', P .. 'j:' .. uid, 'status', 'account', 'hooks', 'outcome')
local ended = j[1] ~= 'queued' and j[1] ~= 'running'
if not j[2] then
  j = redis.call('HMGET', P .. 'b:' .. uid, 'status', 'account', 'hook', 'outcome', 'finished')
  ended, j[1] = j[5], 'batch.' .. (j[1] or '')
end
if j[2] ~= account then return {'none', ''} end
if not ended then return {'not_finished', ''} end
if not j[3] then return {'no_webhook', ''} end
local entry = uid .. ':' .. j[4]
local hash, now = P .. 'ob:' .. entry, int(now_ms())
local h = redis.call('HMGET', hash, 'attempt', 'again')
if h[2] == nonce then return {'ok', entry} end -- the reply to this very call was lost
-- Attempts go on counting, so that one under way cannot settle a later one; those before count for nothing.
local attempt = h[1] or 0
redis.call('HSETNX', hash, 'created', now)
redis.call('HSET', hash, 'uid', uid, 'account', account, 'event', j[1], 'attempt', attempt, 'spared', attempt,
  'since', now, 'again', nonce)
redis.call('HDEL', hash, 'done', 'told', 'token', 'status', 'error', 'at')
redis.call('PERSIST', hash)
redis.call('ZREM', P .. 'ob:dead', entry)
redis.call('ZREM', P .. 'ob:dead:' .. account, entry)
redis.call('ZADD', P .. 'ob', now, entry)
return {'ok', entry}
