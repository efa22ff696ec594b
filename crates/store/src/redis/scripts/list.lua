-- Keys: a hash. Gives its fields and values.
return redis.call('HGETALL', KEYS[2])
