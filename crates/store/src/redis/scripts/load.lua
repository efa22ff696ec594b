-- Keys: snapshot. Arguments: rank and index that the reader holds, or empty.
-- Gives nothing | same | differs, rank, head, index, meta, then fields and values of the buckets that differ.
local found = redis.call('HMGET', KEYS[2], 'rank', 'head', 'index', 'meta')
if not found[1] then
  return {}
end
if found[1] == ARGV[1] then
  return {'same'}
end
local fields = {}
for bucket = 0, 255 do
  local from, to = bucket * 32 + 1, bucket * 32 + 32
  if string.sub(found[3], from, to) ~= string.sub(ARGV[2], from, to) then
    fields[#fields + 1] = string.format('b%02x', bucket)
  end
end
local reply = {'differs', found[1], found[2], found[3], found[4]}
if #fields > 0 then
  local values = redis.call('HMGET', KEYS[2], unpack(fields))
  for at, field in ipairs(fields) do
    if values[at] then
      reply[#reply + 1] = field
      reply[#reply + 1] = values[at]
    end
  end
end
return reply
