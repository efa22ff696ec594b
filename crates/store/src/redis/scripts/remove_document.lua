-- Keys: feed, documents, document. Arguments: epoch, kept changes, name, expected revision (empty: any).
-- Gives gone | conflict, revision, value.
local revision = redis.call('HGET', KEYS[4], 'revision')
if not revision then
  return {'gone'}
end
if ARGV[4] ~= '' and ARGV[4] ~= revision then
  return {'conflict', revision, redis.call('HGET', KEYS[4], 'value')}
end
redis.call('DEL', KEYS[4])
redis.call('HDEL', KEYS[3], ARGV[3])
open(ARGV[1])
tell(KEYS[2], ARGV[2], 'document:' .. ARGV[3], '')
return {'gone'}
