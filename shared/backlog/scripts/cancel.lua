-- End a job that has not ended: at once if it waits, and if it runs its worker finds its lease gone.
-- ARGV: uid, account
-- Returns {'none' | 'already' | 'ok', woken nodes, outbox entry or nothing}.
local uid, account = ARGV[1], ARGV[2]
local j = redis.call('HMGET', P .. 'j:' .. uid, 'status', 'account')
if j[2] ~= account then return {'none', {}} end
if j[1] ~= 'queued' and j[1] ~= 'running' then return {'already', {}} end
local now, woken = now_ms(), {}
return {'ok', woken, stop(uid, 'cancelled', '', now, woken)}
