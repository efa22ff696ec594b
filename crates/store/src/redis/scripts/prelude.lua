-- Before every script. Keys of every script: the store itself, then what the script says.

-- The identity of this store: made by whoever comes first, so that a store that lost its data is known as another one.
-- Numbers begin with the time, so that those of an emptied store go on above those that it gave out before.
local function open(fresh)
  local epoch = redis.call('HGET', KEYS[1], 'epoch')
  if not epoch then
    local now = redis.call('TIME')
    local start = now[1] .. string.format('%06d', now[2])
    redis.call('HSET', KEYS[1], 'epoch', fresh, 'format', '1', 'number', start, 'token', start)
    epoch = fresh
  end
  return epoch
end

local function count(field)
  -- tostring would write large numbers with an exponent.
  return string.format('%.0f', redis.call('HINCRBY', KEYS[1], field, 1))
end

-- Puts a change into the feed; gives its number. Numbers of entries have no gaps, which is how a reader sees that
-- the feed no longer reaches back.
local function tell(feed, kept, subject, version)
  local number = count('number')
  redis.call('XADD', feed, 'MAXLEN', '~', kept, number .. '-0', 's', subject, 'v', version or number)
  return number
end
