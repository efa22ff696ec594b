-- Arguments: epoch if there is none. Gives epoch, run of the server, number of the last change, format.
local epoch = open(ARGV[1])
local info = redis.call('INFO', 'server')
local found = redis.call('HMGET', KEYS[1], 'number', 'format')
return {epoch, string.match(info, 'run_id:(%w+)') or '', found[1], found[2]}
