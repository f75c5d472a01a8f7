-- End jobs of one group: each its own way, all in one round trip.
--
-- KEYS  1 queue   2 leases   3 holds   4 sizes   5 claims   6 suspects
--       7 rerun  hash id -> payload enqueued while the job ran   8 abort  arq's own
-- ARGV  1 token   2 how long a waiting job is kept at least, ms   3 how long a try is remembered, s
--       4.. four a job: id, how, a, b
--         how "D" done or failed for good: a = result ("" none), b = how long it is kept, ms ("0" for ever)
--             "E" as "D", and earlier tries were counted
--             "R" again after a ms, the try counts; b = its place in the queue before the claim, taken if a is 0
--             "H" as "R", but the try does not count
--             "S" as "H", but a is never 0, and from now on in groups of at most b
--             "C" as "S", but the try counts
-- RETURN ids that were not this group's any more; nothing of theirs was changed
--
-- What is over is freed first, and its result written last and only where there is room: a Redis that is full drains.
-- Why atomic: the comparison with the token and the end of the job must be one step. A replica that was frozen and
-- wakes up after another took its jobs changes nothing here.

local queue, leases, holds, sizes, claims, suspects, rerun, aborts = unpack(KEYS)
local token, keep_ms, try_ttl_s = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local ids, lock_keys, n = {}, {}, (#ARGV - 3) / 4
if n == 0 then return {} end
for i = 1, n do
  local id = ARGV[4 * i]
  ids[i], lock_keys[i] = id, 'arq:in-progress:' .. id
end

-- Changes nothing (there is no such member), but is refused like every command that could take memory.
local is_full = type(redis.pcall('ZADD', leases, 'XX', 0, '')) == 'table'
local now = clock_ms()
local locks = redis.call('MGET', unpack(lock_keys))
local repeats = redis.call('EXISTS', rerun) == 1 and redis.call('HMGET', rerun, unpack(ids))
local troubled = redis.call('EXISTS', suspects) == 1
local is_mine = owner_of(token, queue, holds)
local mine, lost, free, ended, cleared, waiting, results = {}, {}, {}, {}, {}, {}, {}

for i = 1, n do
  local id, at = ids[i], 4 * i
  local how, a = ARGV[at + 1], ARGV[at + 2]
  if not is_mine(id, locks[i]) then
    lost[#lost + 1] = id
  else
    mine[#mine + 1] = id
    free[#free + 1] = lock_keys[i]
    if how == 'D' or how == 'E' then
      cleared[#cleared + 1] = id
      if how == 'E' or repeats then free[#free + 1] = 'arq:retry:' .. id end
      if repeats and repeats[i] then  -- enqueued once more while it ran: the next run is what callers wait for
        free[#free + 1] = 'arq:result:' .. id
        waiting[#waiting + 1] = i
      else
        free[#free + 1] = 'arq:job:' .. id
        ended[#ended + 1] = id
        if a ~= '' then results[#results + 1] = i end
      end
    else
      waiting[#waiting + 1] = i
      if how == 'R' then cleared[#cleared + 1] = id end
    end
  end
end

in_chunks(free, function(...) redis.call('DEL', ...) end)
in_chunks(ended, function(...) redis.call('ZREM', queue, ...) end)
if repeats then in_chunks(mine, function(...) redis.call('HDEL', rerun, ...) end) end
if troubled then in_chunks(cleared, function(...) redis.call('HDEL', suspects, ...) end) end
if redis.call('EXISTS', aborts) == 1 then in_chunks(ended, function(...) redis.call('ZREM', aborts, ...) end) end

local function count_try(id)
  local key = 'arq:retry:' .. id
  if type(redis.pcall('INCR', key)) == 'table' then redis.call('SET', key, 1) end  -- was no number
  redis.call('EXPIRE', key, try_ttl_s)
end

local function suspect(id, limit)
  local text = redis.call('HGET', suspects, id)
  local r = text and parse(text) or {crashes = 0, soft = 0, blamed = '', dead = false}
  r.soft, r.limit = r.soft + 1, math.max(1, tonumber(limit))
  redis.call('HSET', suspects, id, text_of(r))
end

for _, i in ipairs(waiting) do
  local id, how, after_ms, b = ids[i], ARGV[4 * i + 1], tonumber(ARGV[4 * i + 2]), ARGV[4 * i + 3]
  if how == 'D' or how == 'E' then
    redis.call('SET', 'arq:job:' .. id, repeats[i], 'PX', keep_ms)
    redis.call('ZADD', queue, whole(now), id)
  else
    if how == 'R' or how == 'C' then count_try(id) end
    if how == 'S' or how == 'C' then suspect(id, b) end
    redis.call('ZADD', queue, after_ms > 0 and whole(now + after_ms) or b, id)
    local left = redis.call('PTTL', 'arq:job:' .. id)
    if left >= 0 and left < after_ms + keep_ms then redis.call('PEXPIRE', 'arq:job:' .. id, after_ms + keep_ms) end
  end
end

if #mine > 0 and redis.call('HINCRBY', sizes, token, -#mine) <= 0 then
  dissolve(token, leases, holds, sizes, claims)
end
pardon(suspects, lost, token)
if not is_full then
  for _, i in ipairs(results) do
    local key, result, result_ms = 'arq:result:' .. ids[i], ARGV[4 * i + 2], ARGV[4 * i + 3]
    if result_ms == '0' then redis.call('SET', key, result) else redis.call('SET', key, result, 'PX', result_ms) end
  end
end
return lost
