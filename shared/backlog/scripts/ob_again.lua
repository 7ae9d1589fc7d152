-- Somebody asks for a job's closing webhook once more: it is due now, and its attempts are counted anew.
-- ARGV: uid, account, nonce
-- Returns 'none' | 'not_finished' | 'no_webhook' | 'ok', and the entry.
local uid, account, nonce = ARGV[1], ARGV[2], ARGV[3]
local j = redis.call('HMGET', P .. 'j:' .. uid, 'status', 'account', 'hooks', 'outcome')
if j[2] ~= account then return {'none', ''} end
if j[1] == 'queued' or j[1] == 'running' then return {'not_finished', ''} end
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
