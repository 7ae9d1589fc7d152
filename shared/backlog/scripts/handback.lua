-- A worker that shuts down returns what it has not started; the attempt does not count.
-- ARGV: node, then uid, fence for each lease
-- Returns {handed back, woken nodes}.
local node = ARGV[1]
local now, woken, count = now_ms(), {}, 0
for i = 2, #ARGV, 2 do
  local uid = ARGV[i]
  if is_held(uid, ARGV[i + 1], node) then
    give_back(uid, now, woken)
    count = count + 1
  end
end
return {count, woken}
