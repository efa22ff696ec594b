-- Keys: feed. Arguments: id of the first entry wanted, how many at most.
-- Gives epoch, number of the last change, then id, subject and version of each entry.
local found = redis.call('HMGET', KEYS[1], 'epoch', 'number')
local reply = {found[1], found[2]}
for _, entry in ipairs(redis.call('XRANGE', KEYS[2], ARGV[1], '+', 'COUNT', ARGV[2])) do
  reply[#reply + 1] = entry[1]
  reply[#reply + 1] = entry[2][2]
  reply[#reply + 1] = entry[2][4]
end
return reply
