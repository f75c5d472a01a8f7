-- End jobs of one group: each its own way, all in one round trip.
--
-- KEYS  1 queue   2 leases   3 claims   4 again  hash job id -> payload enqueued while the job ran   5 abort
-- ARGV  1 now_ms   2 token   3 how long a waiting job is kept at least, ms   4 how long a try is remembered, s
--       5.. four a job: id, how, a, b
--         how "D" done or failed for good: a = result ("" none), b = how long it is kept, ms ("0" for ever)
--             "R" again after a ms, the try counts
--             "H" again after a ms (0: at its old place), the try does not count
--             "S" as "H", and from now on in groups of at most b
--             "C" as "R", and from now on in groups of at most b
-- RETURN ids that were not this claim's any more; nothing of theirs was changed
--
-- Why atomic: the comparison with the token and the end of the job must be one step. A replica that was frozen and
-- wakes up after another took its jobs changes nothing here.

local queue, leases, claims, again, aborts = unpack(KEYS)
local now, token, keep_ms, try_ttl_s = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), ARGV[4]
local ids, lock_keys, n = {}, {}, (#ARGV - 4) / 4
if n == 0 then return {} end
for i = 1, n do
  local id = ARGV[4 * i + 1]
  ids[i], lock_keys[i] = id, 'arq:in-progress:' .. id
end

local records = redis.call('HMGET', claims, unpack(ids))
local locks = redis.call('MGET', unpack(lock_keys))
local repeats = redis.call('EXISTS', again) == 1 and redis.call('HMGET', again, unpack(ids))
local lost, free, ended, forgotten = {}, {}, {}, {}

local function requeue(id, r, after_ms)
  local score = after_ms > 0 and whole(now + after_ms) or r.score
  redis.call('ZADD', queue, score, id)
  local job_key = 'arq:job:' .. id
  local left = redis.call('PTTL', job_key)
  if left >= 0 and left < after_ms + keep_ms then redis.call('PEXPIRE', job_key, after_ms + keep_ms) end
end

local function finish(i, id, result, result_ms)
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
  free[#free + 1] = 'arq:retry:' .. id
  ended[#ended + 1] = id
end

local function count_try(id)
  redis.call('INCR', 'arq:retry:' .. id)
  redis.call('EXPIRE', 'arq:retry:' .. id, try_ttl_s)
end

local function keep_record(id, r)
  r.token = ''
  redis.call('HSET', claims, id, text_of(r))
end

local mine, mark = {}, token .. '|'
for i = 1, n do
  local id, record = ids[i], records[i]
  if record and string.sub(record, 1, #mark) == mark and (not locks[i] or locks[i] == token) then
    mine[#mine + 1] = id
    free[#free + 1] = lock_keys[i]
    local at = 4 * i + 1
    local how, a, b = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
    local r = how ~= 'D' and parse(record)
    if how == 'D' then
      finish(i, id, a, b)
      forgotten[#forgotten + 1] = id
    elseif how == 'R' then
      count_try(id)
      requeue(id, r, tonumber(a))
      forgotten[#forgotten + 1] = id
    elseif how == 'H' then
      requeue(id, r, tonumber(a))
      if r.limit > 0 then keep_record(id, r) else forgotten[#forgotten + 1] = id end
    else
      if how == 'C' then count_try(id) end
      requeue(id, r, tonumber(a))
      r.soft, r.limit = r.soft + 1, math.max(1, tonumber(b))
      keep_record(id, r)
    end
  else
    lost[#lost + 1] = id
    if record then pardon(claims, id, parse(record), token) end
  end
end

in_chunks(mine, function(...) redis.call('ZREM', leases, ...) end)
if repeats then in_chunks(mine, function(...) redis.call('HDEL', again, ...) end) end
in_chunks(forgotten, function(...) redis.call('HDEL', claims, ...) end)
in_chunks(free, function(...) redis.call('DEL', ...) end)
in_chunks(ended, function(...) redis.call('ZREM', queue, ...) end)
if redis.call('EXISTS', aborts) == 1 then in_chunks(ended, function(...) redis.call('ZREM', aborts, ...) end) end
return lost
