-- Who is calling: what an API key, or the client of a session, opens. One round trip, and nothing is remembered
-- elsewhere, so a key that was withdrawn opens nothing from that moment on.
-- args: the key's digest or '', the client's token where the digest is '', least milliseconds between two notes of use
-- returns: nothing where it opens nothing, else {account, client, prefix, scopes,
--          name, plan, pool, webhook secrets, notify URL, upload URL}
local P = '{dr}:'
local digest, client, note_every = ARGV[1], ARGV[2], tonumber(ARGV[3])

if digest == '' then
    digest = redis.call('HGET', P .. 'client:' .. client, 'key')
    if not digest then return false end
end
local key = P .. 'key:' .. digest
local k = redis.call('HMGET', key, 'account', 'client', 'prefix', 'scopes', 'expires', 'used')
if not k[1] then return false end

local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
if k[5] and tonumber(k[5]) <= now then return false end

local a = redis.call('HMGET', P .. 'a:' .. k[1], 'name', 'plan', 'pool', 'webhook_secrets')
if not a[1] then return false end
local c = redis.call('HMGET', P .. 'client:' .. (k[2] or ''), 'notify', 'upload')

if not k[6] or now - tonumber(k[6]) >= note_every then
    redis.call('HSET', key, 'used', string.format('%.0f', now))
end
return {k[1], k[2] or '', k[3] or '', k[4] or 'submit,read', a[1], a[2], a[3], a[4], c[1] or '', c[2] or ''}
