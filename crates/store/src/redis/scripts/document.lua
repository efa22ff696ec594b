-- Keys: document. Gives revision and value, or nothing.
local found = redis.call('HMGET', KEYS[2], 'revision', 'value')
if not found[1] then
  return {}
end
return found
