-- Give an account millicredits, or take unspent ones away; from the first on it is metered.
-- ARGV: nonce, account, millicredits (may be negative), nonce seconds
-- Returns {'ok' | 'none' | 'too_little', millicredits that are neither spent nor reserved}.
local nonce_name, account, amount = P .. 'n:' .. ARGV[1], ARGV[2], tonumber(ARGV[3])
local key = P .. 'a:' .. account
if redis.call('HEXISTS', key, 'name') == 0 then return {'none', '0'} end
-- The reply to this very call was lost.
local seen = redis.call('GET', nonce_name)
if seen then return {'ok', seen} end
local balance = tonumber(redis.call('HGET', key, 'balance') or 0)
if balance + amount < 0 then return {'too_little', int(balance)} end
redis.call('HINCRBY', key, 'balance', int(amount))
use(account, now_ms(), 'granted', amount)
redis.call('SET', nonce_name, int(balance + amount), 'EX', ARGV[4])
return {'ok', int(balance + amount)}
