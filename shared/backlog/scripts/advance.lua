-- A job's images are fetched: it goes from the ingest lane to the lane where it is drawn, at the place it was given when
-- it was submitted.
-- ARGV: node, uid, fence, lane, batch key, submission
-- Returns {'ok' | 'again' | 'fenced', woken nodes}.
local node, uid, fence = ARGV[1], ARGV[2], ARGV[3]
local lane, key = ARGV[4], ARGV[5]
local job = P .. 'j:' .. uid
local j = redis.call('HMGET', job, 'status', 'fence', 'worker', 'lane', 'advanced')
if j[5] == fence then return {'again', {}} end
if j[1] ~= 'running' or j[2] ~= fence or j[3] ~= node or not is_ingest(j[4]) then return {'fenced', {}} end
local now, woken = now_ms(), {}
redis.call('SET', P .. 's:' .. uid, ARGV[6])
-- Fetching is no attempt at drawing, and losses on the way say nothing of the job itself.
redis.call('HINCRBY', job, 'attempts', -1)
redis.call('HDEL', job, 'lost')
redis.call('HSET', job, 'lane', lane, 'advanced', fence)
local deadline = redis.call('ZSCORE', P .. 'deadline', uid)
requeue(uid, key, now, woken, true)
-- It has not started yet, so the deadline for that still holds.
if deadline then redis.call('ZADD', P .. 'deadline', deadline, uid) end
return {'ok', woken}
