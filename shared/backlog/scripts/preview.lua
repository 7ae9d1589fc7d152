-- List a picture of how far a running job is.
-- ARGV: node, uid, fence, preview (JSON), most previews kept
-- Returns 'ok' | 'fenced'.
local node, uid, fence = ARGV[1], ARGV[2], ARGV[3]
local j = redis.call('HMGET', P .. 'j:' .. uid, 'status', 'fence', 'worker', 'account')
if j[1] ~= 'running' or j[2] ~= fence or j[3] ~= node then return 'fenced' end
local list = P .. 'p:' .. uid
-- The reply to this very call was lost, and another may have come in between.
for _, known in ipairs(redis.call('LRANGE', list, -16, -1)) do
  if known == ARGV[4] then return 'ok' end
end
redis.call('RPUSH', list, ARGV[4])
redis.call('LTRIM', list, -tonumber(ARGV[5]), -1)
emit(uid, j[4], 'preview')
return 'ok'
