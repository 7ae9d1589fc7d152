-- Queue a job that ended without pictures once more, under its own uid. Its price is reserved anew.
-- ARGV: uid, account, nonce, batch key
-- Returns {'none' | 'not_failed' | 'insufficient_credits' | 'ok', woken nodes, outbox entries}.
local uid, account, nonce = ARGV[1], ARGV[2], ARGV[3]
local j = redis.call('HMGET', P .. 'j:' .. uid, 'account', 'retried')
if j[1] ~= account then return {'none', {}, {}} end
if j[2] == nonce then return {'ok', {}, {}} end -- the reply to this very call was lost
local now, woken, entries = now_ms(), {}, {}
local refusal = again(uid, ARGV[4], now, woken, entries)
if refusal then return {refusal, {}, {}} end
redis.call('HSET', P .. 'j:' .. uid, 'retried', nonce)
return {'ok', woken, entries}
