-- An account's webhooks are signed with a new secret, and with the one before it until that is retired.
-- ARGV: account, new secret ('': only the newest is left)
-- Returns the live secrets, the newest first.
local key, fresh = '{dr}:a:' .. ARGV[1], ARGV[2]
local known = {}
for secret in string.gmatch(redis.call('HGET', key, 'webhook_secrets') or '', '%S+') do known[#known + 1] = secret end
-- The reply to this very call may have been lost.
if fresh ~= '' and known[1] ~= fresh then known = {fresh, known[1]} end
if fresh == '' then known = {known[1]} end
redis.call('HSET', key, 'webhook_secrets', table.concat(known, ' '))
return known
