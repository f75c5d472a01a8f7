-- Shared by the scripts beside it, and put in front of each.
--
-- How ownership is written. A claimed group has a token; each of its jobs has the token in arq:in-progress:<id> with a
-- PX lease, and the end of the lease (ms) as its score in the queue. `leases` holds token -> end, `sizes` token -> open
-- jobs, `claims` token -> MessagePack {id, score before the claim, ...}. So a job is a group's own if
--   its lock is the group's token, or
--   its lock ran out, nobody took the job since (its score is still the lease's end), and the group was not swept.
-- The second line lets a worker keep its jobs over a Redis that was away longer than a lease.
--
-- `suspects` holds job id -> "limit|crashes|soft|blamed|dead", only for jobs that were in trouble:
--   limit    largest group the job may join
--   crashes  how often the process died under it      soft  how often its group raised or overran
--   blamed   token of the claim whose death was booked last, so that a worker that only stood still can take it back
--   dead     1: condemned, to be buried instead of run

local function parse(text)
  local limit, crashes, soft, blamed, dead = string.match(text, '^(%d+)|(%d+)|(%d+)|([^|]*)|(%d)$')
  return {limit = tonumber(limit), crashes = tonumber(crashes), soft = tonumber(soft), blamed = blamed,
          dead = dead == '1'}
end

local function text_of(r)
  return table.concat({r.limit, r.crashes, r.soft, r.blamed, r.dead and '1' or '0'}, '|')
end

local function clock_us()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

local function clock_ms() return math.floor(clock_us() / 1000) end

local function whole(number) return string.format('%.0f', number) end

-- Call with the list's members as arguments, some at a time: unpack() is bounded by Lua's stack.
local function in_chunks(list, call)
  for from = 1, #list, 1000 do call(unpack(list, from, math.min(from + 999, #list))) end
end

-- A test whether a job is the group's own; see above. `locks` are asked in bulk by the caller.
local function owner_of(token, queue, leases)
  local lease_end
  return function(id, lock)
    if lock then return lock == token end
    if lease_end == nil then lease_end = redis.call('ZSCORE', leases, token) end
    return lease_end and redis.call('ZSCORE', queue, id) == lease_end
  end
end

-- The worker that held `token` lives: crashes booked on its account were none.
local function pardon(suspects, ids, token)
  if #ids == 0 or redis.call('EXISTS', suspects) == 0 then return end
  for i, text in ipairs(redis.call('HMGET', suspects, unpack(ids))) do
    local r = text and parse(text)
    if r and r.blamed == token then
      r.crashes, r.blamed, r.dead = math.max(0, r.crashes - 1), '', false
      if r.crashes == 0 and r.soft == 0 then redis.call('HDEL', suspects, ids[i])
      else redis.call('HSET', suspects, ids[i], text_of(r)) end
    end
  end
end

-- The group is no more.
local function dissolve(token, leases, sizes, claims)
  redis.call('ZREM', leases, token)
  redis.call('HDEL', sizes, token)
  redis.call('HDEL', claims, token)
end

