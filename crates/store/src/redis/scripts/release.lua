-- Keys: lease. Arguments: holder. Gives whether it was the holder's.
if redis.call('HGET', KEYS[2], 'holder') ~= ARGV[1] then
  return {'0'}
end
return {tostring(redis.call('DEL', KEYS[2]))}
