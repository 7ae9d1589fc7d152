-- A worker begins to draw: from here on these jobs are lost with it. What it has but claimed goes back unharmed.
-- ARGV: node, then uid, fence for each lease
-- Returns the uids that it does not hold any more.
local node, lost = ARGV[1], {}
for i = 2, #ARGV, 2 do
  if is_held(ARGV[i], ARGV[i + 1], node) then
    redis.call('HDEL', P .. 'j:' .. ARGV[i], 'ahead')
  else
    lost[#lost + 1] = ARGV[i]
  end
end
return lost
