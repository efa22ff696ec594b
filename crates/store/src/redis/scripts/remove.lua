-- Keys: feed, heads, snapshot. Arguments: epoch, kept changes, id. Gives whether it was there.
-- Deleting comes first: it is what helps when Redis is out of memory.
local there = redis.call('DEL', KEYS[4])
redis.call('HDEL', KEYS[3], ARGV[3])
if there == 1 then
  open(ARGV[1])
  tell(KEYS[2], ARGV[2], ARGV[3], '')
end
return {tostring(there)}
