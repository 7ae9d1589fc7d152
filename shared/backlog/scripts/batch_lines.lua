-- Some of a batch's lines, in their order: the uids of those that are jobs, the text of those still to be fed.
-- ARGV: batch, lines before the first, most
-- Returns {uids, texts}.
local P = '{dr}:'
local from, most = tonumber(ARGV[2]), tonumber(ARGV[3])
local fed = redis.call('LLEN', P .. 'bu:' .. ARGV[1])
local uids = redis.call('LRANGE', P .. 'bu:' .. ARGV[1], from, from + most - 1)
if #uids == most then return {uids, {}} end
local first = math.max(0, from - fed)
return {uids, redis.call('LRANGE', P .. 'bl:' .. ARGV[1], first, first + most - #uids - 1)}
