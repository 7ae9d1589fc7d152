-- A page of a list of ascending uids, newest first. The list has gaps where jobs were erased, so the cursor is a uid
-- and its place is found by halving.
-- ARGV: list, cursor (a uid; only older ones are given) or '', count
-- Returns uids, descending.
local list, before, count = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local last = redis.call('LLEN', list) - 1
if before then
  local low, high = 0, last + 1
  while low < high do
    local middle = math.floor((low + high) / 2)
    if tonumber(redis.call('LINDEX', list, middle)) < before then low = middle + 1 else high = middle end
  end
  last = low - 1
end
if last < 0 then return {} end
local uids = redis.call('LRANGE', list, math.max(0, last - count + 1), last)
local page = {}
for i = #uids, 1, -1 do page[#page + 1] = uids[i] end
return page
