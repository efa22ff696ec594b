-- Keys: feed, heads, snapshot. Arguments: epoch, kept changes, id, version, rank, rank that the change was made
-- against (empty: nothing there; *: replaces everything), number of fields that go, those, then fields and values.
-- Gives same | newer, head | base, rank, index | stored.
local feed, heads, snapshot = KEYS[2], KEYS[3], KEYS[4]
local id, version, rank, base = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local current = redis.call('HGET', snapshot, 'rank')
if current == rank then
  return {'same'}
end
if current and current > rank then
  return {'newer', redis.call('HGET', snapshot, 'head')}
end
if base ~= '*' and base ~= (current or '') then
  local found = redis.call('HMGET', snapshot, 'rank', 'index')
  return {'base', found[1], found[2]}
end
open(ARGV[1])
-- The first write is one that Redis refuses when it is out of memory, so that nothing is half done then.
tell(feed, ARGV[2], id, version)
local gone = tonumber(ARGV[7])
if base == '*' then
  redis.call('DEL', snapshot)
elseif gone > 0 then
  redis.call('HDEL', snapshot, unpack(ARGV, 8, 7 + gone))
end
redis.call('HSET', snapshot, 'rank', rank, unpack(ARGV, 8 + gone))
redis.call('HSET', heads, id, redis.call('HGET', snapshot, 'head'))
return {'stored'}
