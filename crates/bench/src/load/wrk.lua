-- Makes requests with order ids that are never used twice. Above this stand, as the bench wrote them:
-- prefix, kind, lines, skus ("one", "even" or "zipf"), products and orders.

local threads = {}
local cumulative = {}

function setup(thread)
    thread:set("number", #threads)
    table.insert(threads, thread)
end

function init(_)
    sent = 0
    math.randomseed(number + 1)
    if skus == "zipf" then
        local sum = 0
        for rank = 1, products do
            sum = sum + 1 / rank
            cumulative[rank] = sum
        end
    end
end

local function pick()
    if skus == "one" then
        return 1
    elseif skus == "even" then
        return math.random(products)
    end
    local point, low, high = math.random() * cumulative[products], 1, products
    while low < high do
        local middle = math.floor((low + high) / 2)
        if cumulative[middle] < point then low = middle + 1 else high = middle end
    end
    return low
end

local function line(first, nth)
    local product = (first - 1 + (nth - 1) * 97) % products + 1
    if skus == "one" then
        product = nth
    end
    return string.format('{"sku":"SKU-%04d","qty":1}', product)
end

local function format(method, path, body)
    return string.format(
        "%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
        method, path, #body, body)
end

function request()
    sent = sent + 1
    local id = prefix .. "-" .. number .. "-" .. sent
    if kind == "put" then
        local first, asked = pick(), {}
        for nth = 1, lines do
            asked[nth] = line(first, nth)
        end
        return format("PUT", "/v1/orders/" .. id, '{"lines":[' .. table.concat(asked, ",") .. "]}")
    elseif kind == "post" then
        return format("POST", "/allocate", string.format('{"orderid":"%s","sku":"SKU-%04d","qty":1}', id, pick()))
    elseif kind == "order" then
        return format("GET", "/v1/orders/fill-" .. math.random(orders), "")
    end
    return format("GET", string.format("/v1/products/SKU-%04d", pick()), "")
end

function done(summary, latency, _)
    local counts = {}
    for at, thread in ipairs(threads) do
        counts[at] = string.format("%d", thread:get("sent"))
    end
    local errors = summary.errors
    io.write(string.format(
        '\n{"requests":%d,"refused":%d,"broken":%d,"micros":%d,"p50":%d,"p99":%d,"max":%d,"sent":[%s]}\n',
        summary.requests, errors.status, errors.connect + errors.read + errors.write + errors.timeout,
        summary.duration, latency:percentile(50), latency:percentile(99), latency.max, table.concat(counts, ",")))
end
