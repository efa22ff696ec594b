-- Keys: feed, documents, document. Arguments: epoch, kept changes, name, expected revision (empty: any), name of this
-- call, value. Gives stored, revision | conflict, revision, value.
local found = redis.call('HMGET', KEYS[4], 'revision', 'call')
if found[2] == ARGV[5] then
  -- An earlier attempt of this call, whose answer was lost.
  return {'stored', found[1]}
end
if ARGV[4] ~= '' and ARGV[4] ~= (found[1] or '0') then
  return {'conflict', found[1], redis.call('HGET', KEYS[4], 'value')}
end
open(ARGV[1])
local revision = tell(KEYS[2], ARGV[2], 'document:' .. ARGV[3])
redis.call('HSET', KEYS[4], 'revision', revision, 'call', ARGV[5], 'value', ARGV[6])
redis.call('HSET', KEYS[3], ARGV[3], revision)
return {'stored', revision}
