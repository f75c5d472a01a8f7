-- End jobs of one group: each its own way, all in one round trip.
--
-- KEYS  1 queue   2 leases   3 sizes   4 claims   5 suspects   6 again  hash id -> payload enqueued while the job ran
--       7 abort  arq's own
-- ARGV  1 now_ms   2 token   3 how long a waiting job is kept at least, ms   4 how long a try is remembered, s
--       5.. four a job: id, how, a, b
--         how "D" done or failed for good: a = result ("" none), b = how long it is kept, ms ("0" for ever)
--             "E" as "D", and earlier tries were counted
--             "R" again after a ms, the try counts; b = its place in the queue before the claim, taken if a is 0
--             "H" as "R", but the try does not count
--             "S" as "H", but a is never 0, and from now on in groups of at most b
--             "C" as "S", but the try counts
-- RETURN ids that were not this group's any more; nothing of theirs was changed
--
-- Why atomic: the comparison with the token and the end of the job must be one step. A replica that was frozen and
-- wakes up after another took its jobs changes nothing here.

local queue, leases, sizes, claims, suspects, again, aborts = unpack(KEYS)
local now, token, keep_ms, try_ttl_s = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), ARGV[4]
local ids, lock_keys, n = {}, {}, (#ARGV - 4) / 4
if n == 0 then return {} end
for i = 1, n do
  local id = ARGV[4 * i + 1]
  ids[i], lock_keys[i] = id, 'arq:in-progress:' .. id
end

local locks = redis.call('MGET', unpack(lock_keys))
local repeats = redis.call('EXISTS', again) == 1 and redis.call('HMGET', again, unpack(ids))
local troubled = redis.call('EXISTS', suspects) == 1
local is_mine = owner_of(token, queue, leases)
local mine, lost, free, ended, cleared = {}, {}, {}, {}, {}

local function count_try(id)
  redis.call('INCR', 'arq:retry:' .. id)
  redis.call('EXPIRE', 'arq:retry:' .. id, try_ttl_s)
end

local function requeue(id, after_ms, place)
  redis.call('ZADD', queue, after_ms > 0 and whole(now + after_ms) or place, id)
  local left = redis.call('PTTL', 'arq:job:' .. id)
  if left >= 0 and left < after_ms + keep_ms then redis.call('PEXPIRE', 'arq:job:' .. id, after_ms + keep_ms) end
end

local function suspect(id, limit)
  local text = redis.call('HGET', suspects, id)
  local r = text and parse(text) or {crashes = 0, soft = 0, blamed = '', dead = false}
  r.soft, r.limit = r.soft + 1, math.max(1, tonumber(limit))
  redis.call('HSET', suspects, id, text_of(r))
end

local function finish(i, id, result, result_ms, tried)
  if repeats and repeats[i] then  -- enqueued once more while it ran: the next run is what callers wait for
    redis.call('SET', 'arq:job:' .. id, repeats[i], 'PX', keep_ms)
    redis.call('DEL', 'arq:retry:' .. id, 'arq:result:' .. id)
    redis.call('ZADD', queue, whole(now), id)
    return
  end
  if result ~= '' then
    if result_ms == '0' then redis.call('SET', 'arq:result:' .. id, result)
    else redis.call('SET', 'arq:result:' .. id, result, 'PX', result_ms) end
  end
  free[#free + 1] = 'arq:job:' .. id
  if tried then free[#free + 1] = 'arq:retry:' .. id end
  ended[#ended + 1] = id
end

for i = 1, n do
  local id = ids[i]
  if is_mine(id, locks[i]) then
    mine[#mine + 1] = id
    free[#free + 1] = lock_keys[i]
    local at = 4 * i + 1
    local how, a, b = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
    if how == 'D' or how == 'E' then
      finish(i, id, a, b, how == 'E')
      cleared[#cleared + 1] = id
    else
      if how == 'R' or how == 'C' then count_try(id) end
      requeue(id, tonumber(a), b)
      if how == 'R' then cleared[#cleared + 1] = id elseif how ~= 'H' then suspect(id, b) end
    end
  else
    lost[#lost + 1] = id
  end
end

in_chunks(free, function(...) redis.call('DEL', ...) end)
in_chunks(ended, function(...) redis.call('ZREM', queue, ...) end)
if repeats then in_chunks(mine, function(...) redis.call('HDEL', again, ...) end) end
if troubled then in_chunks(cleared, function(...) redis.call('HDEL', suspects, ...) end) end
if redis.call('EXISTS', aborts) == 1 then in_chunks(ended, function(...) redis.call('ZREM', aborts, ...) end) end
if #mine > 0 and redis.call('HINCRBY', sizes, token, -#mine) <= 0 then
  dissolve(token, leases, sizes, claims)
end
pardon(suspects, lost, token)
return lost
