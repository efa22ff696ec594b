-- Keys: live. Arguments: replica, milliseconds, value. The end of each one's time is in front of its value.
local now = redis.call('TIME')
local millis = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
local all = redis.call('HGETALL', KEYS[2])
local last = millis + tonumber(ARGV[2])
for at = 1, #all, 2 do
  local till = tonumber(string.sub(all[at + 1], 1, 15))
  if till <= millis or all[at] == ARGV[1] then
    redis.call('HDEL', KEYS[2], all[at])
  else
    last = math.max(last, till)
  end
end
if tonumber(ARGV[2]) > 0 then
  local till = string.format('%015.0f', millis + tonumber(ARGV[2]))
  redis.call('HSET', KEYS[2], ARGV[1], till .. ARGV[3])
end
redis.call('PEXPIRE', KEYS[2], string.format('%.0f', last - millis))
return {}
