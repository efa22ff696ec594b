-- Keys: live. Gives replicas and values whose time is not over.
local now = redis.call('TIME')
local millis = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
local all = redis.call('HGETALL', KEYS[2])
local reply = {}
for at = 1, #all, 2 do
  if tonumber(string.sub(all[at + 1], 1, 15)) > millis then
    reply[#reply + 1] = all[at]
    reply[#reply + 1] = string.sub(all[at + 1], 16)
  end
end
return reply
