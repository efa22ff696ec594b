-- Keys: lease. Arguments: epoch, holder, milliseconds. Gives holder, token, milliseconds left.
local found = redis.call('HMGET', KEYS[2], 'holder', 'token')
local holder, token = found[1], found[2]
if holder and holder ~= ARGV[2] then
  return {holder, token, string.format('%.0f', redis.call('PTTL', KEYS[2]))}
end
if not holder then
  open(ARGV[1])
  token = count('token')
  redis.call('HSET', KEYS[2], 'holder', ARGV[2], 'token', token)
end
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return {ARGV[2], token, ARGV[3]}
