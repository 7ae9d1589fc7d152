-- Lines of a batch come in. Nobody sees them before `batch_open`; what is not opened goes by itself.
-- ARGV: handle, lines that were added before, seconds they are kept, then at most 512 lines
-- Returns 'ok' | 'gone'.
local P = '{dr}:'
local list, before, lines = P .. 'bl:' .. ARGV[1], tonumber(ARGV[2]), {}
for i = 4, #ARGV do lines[#lines + 1] = ARGV[i] end
local there = redis.call('LLEN', list)
if there == before + #lines then return 'ok' end -- the reply to this very call was lost
if there ~= before then return 'gone' end
redis.call('RPUSH', list, unpack(lines))
redis.call('EXPIRE', list, ARGV[3])
return 'ok'
